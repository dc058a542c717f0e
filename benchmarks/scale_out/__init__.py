"""What two replicas on Ray Serve cost and give beside the plain service, measured in one run."""
