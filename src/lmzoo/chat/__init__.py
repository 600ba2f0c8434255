"""Chat models, which learn from conversations and from rankings of replies, as ChatGPT did (Ouyang et al. 2022)."""
