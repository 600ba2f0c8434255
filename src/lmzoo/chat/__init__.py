"""Learning from conversations and from rankings of replies: the step from GPT-3 to ChatGPT (Ouyang et al. 2022)."""
