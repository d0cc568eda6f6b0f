"""Prompt optimizers, one file each; a method sees text and numbers, never torch."""
