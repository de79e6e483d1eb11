"""Everything that depends on the backend, or on private names of libraries."""
