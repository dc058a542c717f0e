"""The formats of annotation files that `dynrefer batch` reads and writes, one file each."""
