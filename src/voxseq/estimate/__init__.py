"""What a plan takes: GPU hours, bytes and days."""
