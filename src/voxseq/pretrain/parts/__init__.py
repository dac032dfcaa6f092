"""Parts that several methods share: heads, masks, moving averages."""
