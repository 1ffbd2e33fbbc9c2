"""The bus: call, cast and fanout between the processes of one service; in memory or over AMQP."""
