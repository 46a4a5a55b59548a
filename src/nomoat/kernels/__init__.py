"""Hot paths. Each is compiled where that pays and has a readable PyTorch twin that gives the same result."""
