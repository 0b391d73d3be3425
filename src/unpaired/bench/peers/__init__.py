"""Other people's methods, wrapped: they come with the extra ``baselines`` and are never needed."""
