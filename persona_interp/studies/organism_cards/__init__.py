"""Cards of the model organisms: what each is, and whether it reaches the bar of an instrument."""
