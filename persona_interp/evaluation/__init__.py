"""What steering did, measured."""
