"""What each verb does, one file for a family; the RFC's section beside each."""
