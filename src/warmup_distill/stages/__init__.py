"""The stages: each reads artifacts and writes one, and imports no other stage."""
