"""A self-hosted git host that speaks AWS CodeCommit's dialect, with every stored byte sealed."""
