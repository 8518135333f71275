"""What operators see: logs; metrics and traces come with the issue that brings them."""
