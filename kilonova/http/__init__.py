"""The API kit: operations, schemas, microversions, faults, listing, and the client made from them."""
