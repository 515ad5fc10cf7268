"""The answers a vector is made from: sampled, kept, judged and filtered."""
