"""What every store on another machine needs: addresses, logins, drivers, retries, and checks of the way there."""
