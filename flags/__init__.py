"""What command lines share: the parser and its exit statuses (`command_line`), flags that several scripts have."""
