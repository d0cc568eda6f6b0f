"""The engine: exact gradients, batched decoding and scoring of open-weights models; the home of torch."""
