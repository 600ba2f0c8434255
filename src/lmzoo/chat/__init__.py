"""Learning from conversations and from rankings of replies, as from GPT-3 to ChatGPT (Ouyang et al. 2022)."""
