"""What tests need: free ports, waiting for conditions, fakes. Nothing in the product imports it."""
