"""What was measured: error matrices, corpus files, and the corpora that ship."""
