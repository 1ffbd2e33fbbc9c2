"""`make bench`: what an operation costs the cloud, in milliseconds of its CPU, beside what the guide promises."""
