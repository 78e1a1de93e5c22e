"""The token tree: a prompt is the trunk, its samples are branches, continuations grow from them.

Every forward pass here runs its tokens packed into one row, without padding, and attention follows
the tree: what several branches share is computed once.
"""
