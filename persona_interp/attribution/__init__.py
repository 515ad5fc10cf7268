"""Which attention heads and MLPs write along a persona vector, and whether ablating them takes the trait away."""
