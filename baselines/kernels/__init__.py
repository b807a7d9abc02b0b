"""What is computed over all bags of a batch: each function means the same for one bag.

Nothing else in baselines/ and amkd/ depends on the device.
"""
