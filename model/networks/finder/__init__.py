"""Finders: networks that say where objects are, behind `dynrefer.model.finding.Finder`."""
