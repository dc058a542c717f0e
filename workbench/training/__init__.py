"""`dynrefer train --train FILE`: training and fine-tuning on your own regions, captions and tags."""
