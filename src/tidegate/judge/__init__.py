"""Records of requests, from which canaries are judged."""
