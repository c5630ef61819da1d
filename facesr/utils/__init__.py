"""What every room needs and none owns: files, images, errors, arguments, processes, memory. Knows no other room."""
