// Netty's server, over plain TCP and TLS. Arguments: address, port, port for TLS, PEM.
import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.*;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.http.*;
import io.netty.handler.ssl.*;
import java.io.File;

public class Netty {
    public static void main(String[] a) throws Exception {
        var tls = SslContextBuilder.forServer(new File(a[3]), new File(a[3])).sslProvider(SslProvider.JDK).build();
        var group = new NioEventLoopGroup(2);
        for (int i = 1; i <= 2; i++) {
            var secure = i == 2;
            new ServerBootstrap().group(group).channel(NioServerSocketChannel.class)
                .childOption(ChannelOption.ALLOW_HALF_CLOSURE, true)
                .childHandler(new ChannelInitializer<Channel>() {
                    protected void initChannel(Channel channel) {
                        if (secure) channel.pipeline().addLast(tls.newHandler(channel.alloc()));
                        channel.pipeline().addLast(new HttpServerCodec(), new Answer());
                    }
                }).bind(a[0], Integer.parseInt(a[i])).sync();
        }
    }

    static class Answer extends SimpleChannelInboundHandler<HttpRequest> {
        protected void channelRead0(ChannelHandlerContext context, HttpRequest request) {
            var good = request.decoderResult().isSuccess();
            var status = good ? HttpResponseStatus.OK : HttpResponseStatus.BAD_REQUEST;
            var answer = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, status);
            context.writeAndFlush(answer).addListener(ChannelFutureListener.CLOSE);
        }

        public void userEventTriggered(ChannelHandlerContext context, Object event) {
            if (event instanceof io.netty.channel.socket.ChannelInputShutdownEvent) context.close();
        }

        public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
            context.close();
        }
    }
}
