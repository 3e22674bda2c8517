"""What a step needs on the device, what the machine gives, and who holds the rest."""
