select at from pruned;
