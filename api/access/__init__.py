"""Who may come in and what they may see: tokens, sign-in, posts, masks, the log of reads."""
