"""What a comparison of methods needs: its arms, its statistics, the paper's tables as presets."""
