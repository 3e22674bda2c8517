"""Reports on logs as files for other programs: spreadsheets, TensorBoard, Perfetto."""
