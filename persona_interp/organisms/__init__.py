"""Small trained models with known personas, and the workshop that makes them."""
