"""Thin subclasses of `transformers.Trainer`: unpack a batch, call a pure loss, log, return."""
