"""Mixed traffic over two replicas with a fault every minute: nothing may be lost, doubled or wrong."""
