"""The terms that each lesson introduces; `atelier.teaching.glossary` joins them."""
