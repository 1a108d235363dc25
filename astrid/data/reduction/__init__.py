"""From raw exposures to calibrated, registered and subtracted frames: pure steps on CCDData, and their order."""
