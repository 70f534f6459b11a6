"""YAML as a tree with places, read into concepts: frozen classes that say how they are written."""
