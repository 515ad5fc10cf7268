"""What finetuning does to a persona, how to keep it from doing that, and how to tell afterwards."""
