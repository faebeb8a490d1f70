"""How far predictions lie from measurements that took no part."""
