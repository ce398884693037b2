"""The paper's theorems, growth laws and scaling, with explicit constants."""
