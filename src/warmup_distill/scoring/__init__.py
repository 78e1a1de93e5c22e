"""Scores of completions: final answers, Rouge-L, reward models, agreement with the teacher."""
