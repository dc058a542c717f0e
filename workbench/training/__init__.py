"""`dynrefer train`: training and fine-tuning on your own regions, and the recipe of the embedded model."""
