"""The engine: exact gradients, batched decoding and scoring of open-weights models. Torch and transformers live here."""
