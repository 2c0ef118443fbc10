"""From a vision network and images to features people can be asked about; whoever needs a room imports it."""
