"""What is computed over all bags of a batch: each function means the same for one bag, and alone knows about devices."""
