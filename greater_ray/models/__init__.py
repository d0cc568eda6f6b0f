"""The engine: exact gradients, batched decoding and scoring of an open-weights model; torch and transformers live here."""
