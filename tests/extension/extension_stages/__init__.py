"""Stages and a recipe for the tests of processes, installed as an extension."""
