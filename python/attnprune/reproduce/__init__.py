"""The paper's Figures 2 and 3, drawn anew by the methods of a server:

    python3 -m attnprune.reproduce figure2 --output DIR

docs/figures.md of the project has what they show.
"""
