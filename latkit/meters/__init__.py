"""What measures beside the clock: energy, and what NVIDIA's management library knows."""
