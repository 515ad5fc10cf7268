"""What finetuning on data with a trait does to a model, and what keeps the trait out."""
